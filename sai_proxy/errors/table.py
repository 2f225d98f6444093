"""One table from each kind of failure to its status, OpenAI type, code and wording.

Source of types and codes: OpenAI's API reference and its answers, as seen by the SDKs. The words
`not supported` stay in the Spanish texts too: GitLens looks for them to leave a feature out. So do
`Incorrect API key provided`, by which LiteLLM tells a 401 from a bad request, and `This model's maximum
context length is`, by which it knows that no repetition helps.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from sai_proxy import errors as e
from sai_proxy.errors.wording import Facts

Language = Literal["es", "en"]


class Row(NamedTuple):
    """How one kind of failure is answered. `retry=False` tells SDKs not to try again."""

    status: int
    type: str
    code: str | None
    es: str
    en: str
    retry: Literal[False] | None = None


class ErrorForm(NamedTuple):
    """A failure, ready to be written in whatever way the client reads. final: whether another try is useless
    though the status says otherwise."""

    status: int
    type: str
    code: str | None
    param: str | None
    message: str
    headers: Mapping[str, str]
    final: bool = False


_BAD = "invalid_request_error"
_SERVER = "server_error"
_BUSY = "service_unavailable_error"

_ASK_AGAIN_ES = "Inténtalo de nuevo en unos momentos."
_ASK_AGAIN_EN = "Try again in a moment."

ERROR_TABLE: dict[type[e.ProxyError], Row] = {
    e.MalformedJson: Row(
        400,
        _BAD,
        None,
        "El cuerpo de la petición no es JSON válido: {problem_es}.",
        "The request body is not valid JSON: {problem_en}.",
    ),
    e.MissingParameter: Row(
        400,
        _BAD,
        "missing_required_parameter",
        "Falta el parámetro obligatorio '{param}'.",
        "Missing required parameter: '{param}'.",
    ),
    e.InvalidType: Row(
        400,
        _BAD,
        "invalid_type",
        "Tipo no válido en '{param}': se esperaba {expected} y llegó {found}.",
        "Invalid type for '{param}': expected {expected}, but got {found}.",
    ),
    e.EmptyArray: Row(
        400,
        _BAD,
        "empty_array",
        "Lista vacía en '{param}': se esperaba al menos un elemento.",
        "Invalid '{param}': empty array. Expected at least one item.",
    ),
    e.ArrayTooLong: Row(
        400,
        _BAD,
        "array_above_max_length",
        "Lista demasiado larga en '{param}': como máximo {limit} elementos.",
        "Invalid '{param}': array too long. Expected at most {limit} items.",
    ),
    e.InvalidValue: Row(
        400,
        _BAD,
        "invalid_value",
        "Valor no válido en '{param}': {problem_es}.",
        "Invalid value for '{param}': {problem_en}.",
    ),
    e.UnsupportedParameter: Row(
        400,
        _BAD,
        "unsupported_parameter",
        "El parámetro '{param}' no se admite (not supported): SAI solo responde texto. Quítalo y repite la petición.",
        "Unsupported parameter: '{param}' is not supported, since SAI answers with text only. Remove it and ask again.",
    ),
    e.UnsupportedValue: Row(
        400,
        _BAD,
        "unsupported_value",
        "El valor de '{param}' no se admite (not supported). Permitido: {allowed}.",
        "Unsupported value: '{param}' is not supported with this value. Allowed: {allowed}.",
    ),
    e.UnsupportedContent: Row(
        400,
        _BAD,
        "invalid_value",
        "'{param}' contiene {kind}: el modelo '{model}' no lo admite aquí (not supported). "
        "Qué puedes hacer: {instead_es}quita la imagen o el archivo, y envía solo texto.",
        "'{param}' holds {kind}, which is not supported by '{model}' here. "
        "What you can do: {instead_en}take the picture or file out, and send text only.",
    ),
    e.ContextLengthExceeded: Row(
        400,
        _BAD,
        "context_length_exceeded",
        "Contexto demasiado largo{size_es} (This model's maximum context length is exceeded). "
        "Qué puedes hacer: reducir el número de mensajes del historial, "
        "resumir la conversación anterior o iniciar una conversación nueva.",
        "The context is too long{size_en}. This model's maximum context length is exceeded. "
        "What you can do: send fewer messages of the history, "
        "summarise the earlier conversation, or start a new one.",
        retry=False,
    ),
    e.MalformedHttp: Row(
        400,
        _BAD,
        None,
        "La petición no es HTTP válido o su cabecera es demasiado grande.",
        "The request is not valid HTTP, or its headers are too large.",
    ),
    e.ModelNotFound: Row(
        404,
        _BAD,
        "model_not_found",
        "El modelo '{model}' no existe aquí. Modelos disponibles: {known}.",
        "The model '{model}' does not exist here. Available models: {known}.",
    ),
    e.PreviousResponseNotFound: Row(
        400,
        _BAD,
        "previous_response_not_found",
        "La respuesta anterior '{id}' no se conserva aquí (not found): las respuestas se guardan por un tiempo si el "
        "servidor está configurado para ello, y solo para quien las pidió. Envía la conversación completa en 'input'.",
        "Previous response with id '{id}' not found: answers are kept for a while where the server is set to do so, "
        "and only for who asked for them. Send the whole conversation in 'input'.",
    ),
    e.ItemNotKept: Row(
        400,
        _BAD,
        "item_not_found",
        "El elemento '{id}' no se conserva aquí (not found). Envía su texto en lugar de una referencia; con el AI SDK: "
        "'providerOptions.openai.store' en false en cada llamada, o el modelo con '.chat()'.",
        "Item with id '{id}' not found here. Send its text instead of a reference; with the AI SDK: "
        "'providerOptions.openai.store' set to false with each call, or the model by '.chat()'.",
    ),
    e.ResponseNotFound: Row(
        404,
        _BAD,
        "response_not_found",
        "La respuesta '{id}' no se conserva aquí.",
        "Response with id '{id}' not found.",
    ),
    e.UnknownUrl: Row(
        404,
        _BAD,
        None,
        "URL desconocida ({method} {path}){hint_es}.",
        "Invalid URL ({method} {path}){hint_en}",
    ),
    e.MethodNotAllowed: Row(
        405,
        _BAD,
        None,
        "{path} no admite {method}. Permitido: {allowed}.",
        "{path} does not allow {method}. Allowed: {allowed}.",
    ),
    e.BodyTimeout: Row(
        408,
        _BAD,
        "request_timeout",
        "La petición no llegó completa en {seconds} segundos.",
        "The request did not arrive in full within {seconds} seconds.",
    ),
    e.BodyTooLarge: Row(
        413,
        _BAD,
        "request_too_large",
        "El cuerpo de la petición supera el máximo de {limit} bytes.",
        "The request body exceeds the maximum of {limit} bytes.",
    ),
    e.UnsupportedMediaType: Row(
        415,
        _BAD,
        "unsupported_media_type",
        "No se aceptan cuerpos comprimidos (Content-Encoding: {encoding}). Envía el JSON sin comprimir.",
        "Compressed bodies are not accepted (Content-Encoding: {encoding}). Send the JSON uncompressed.",
    ),
    e.CrossSite: Row(
        403,
        "request_forbidden",
        "cross_site_request",
        "Una página web de otro sitio ({origin}) no puede usar este servidor así. Si debe poder, añade su origen a "
        "CORS_ORIGINS y envía 'Content-Type: application/json'.",
        "A web page of another site ({origin}) may not use this server like this. If it should, add its origin to "
        "CORS_ORIGINS and send 'Content-Type: application/json'.",
    ),
    e.AccessTokenRequired: Row(
        401,
        _BAD,
        "invalid_api_key",
        "Este servidor pide un token de acceso (Incorrect API key provided): envía 'Authorization: Bearer "
        "<token>', o tu propia API Key de SAI.",
        "Incorrect API key provided: this server asks for an access token. Send 'Authorization: Bearer "
        "<token>', or a SAI API key of your own.",
    ),
    e.CredentialUnusable: Row(
        401,
        _BAD,
        "invalid_api_key",
        "La API Key proporcionada no es válida (Incorrect API key provided): contiene caracteres que no "
        "pueden ir en una cabecera HTTP, "
        "o es demasiado larga. Cópiala de nuevo desde SAI.",
        "Incorrect API key provided: it has characters that cannot stand in an HTTP header, or is too long. "
        "Copy it again from SAI.",
    ),
    e.CredentialKindNeeded: Row(
        401,
        _BAD,
        "credential_kind",
        "Este modelo necesita {needed_es} (Incorrect API key provided).",
        "Incorrect API key provided: this model needs {needed_en}.",
    ),
    e.CredentialRejected: Row(
        401,
        _BAD,
        "invalid_api_key",
        "{credential_es} no es válida o ha expirado (Incorrect API key provided). No se ha probado con otra "
        "credencial. "
        "Genera una nueva en SAI (Settings, API Keys) y actualízala en tu cliente.",
        "Incorrect API key provided: {credential_en_mid} is not valid or has expired. No other credential was tried. "
        "Make a new one in SAI (Settings, API Keys) and put it into your client.",
    ),
    e.SystemCredentialRejected: Row(
        401,
        _BAD,
        "upstream_auth",
        "{credential_es} no es válida o ha expirado (Incorrect API key provided). Avisa al administrador del servidor, "
        "o envía tu propia API Key de SAI.",
        "Incorrect API key provided: {credential_en_mid} is not valid or has expired. Tell the server's "
        "operator, or send a SAI API key of your own.",
    ),
    e.PermissionDenied: Row(
        403,
        "request_forbidden",
        "template_access_denied",
        "SAI no permite usar esta plantilla con {credential_es_mid}. La plantilla debe ser propia de esa cuenta "
        "o estar compartida con ella (suscrita o en sus favoritos).",
        "SAI does not let {credential_en_mid} run this template. The template must be owned by or shared with "
        "that account (subscribed to, or among its favourites).",
    ),
    e.RateLimited: Row(
        429,
        "requests",
        "rate_limit_exceeded",
        "Se alcanzó el límite de uso de SAI con {credential_es_mid}. Espera un momento antes de repetir la petición"
        "{own_key_es}.",
        "SAI's usage limit is reached for {credential_en_mid}. Wait before you ask again{own_key_en}.",
    ),
    e.TooManyAtOnce: Row(
        429,
        "requests",
        "too_many_concurrent_requests",
        "Esta credencial ya tiene {limit} peticiones en curso, el máximo aquí. Espera a que termine alguna.",
        "This credential has {limit} requests running already, the most that this server allows. Wait for one to end.",
    ),
    e.TemplateNotFound: Row(
        404,
        _BAD,
        "model_not_found",
        "SAI no conoce la plantilla de este modelo. Avisa al administrador del servidor.",
        "SAI does not know this model's template. Tell the server's operator.",
    ),
    e.UpstreamRejected: Row(
        400,
        _BAD,
        "upstream_rejected",
        "SAI rechazó la petición por no ser válida para esta plantilla.",
        "SAI refused the request as not valid for this template.",
    ),
    e.UpstreamConflict: Row(
        409,
        _BAD,
        "conflict",
        "SAI respondió que la petición está en conflicto con otra.",
        "SAI answered that the request conflicts with another one.",
        retry=False,
    ),
    e.UpstreamTooLarge: Row(
        413,
        _BAD,
        "request_too_large",
        "La petición es demasiado grande para SAI.",
        "The request is too large for SAI.",
    ),
    e.UpstreamError: Row(
        502,
        _SERVER,
        "upstream_error",
        f"Error interno de SAI ({{status}}), no relacionado con el tamaño del mensaje. {_ASK_AGAIN_ES}",
        f"SAI had an internal error ({{status}}), not related to the size of the message. {_ASK_AGAIN_EN}",
    ),
    e.UpstreamProtocolError: Row(
        502,
        _SERVER,
        "upstream_protocol",
        f"La respuesta de SAI llegó cortada o mal formada. {_ASK_AGAIN_ES}",
        f"SAI's answer was cut off or malformed. {_ASK_AGAIN_EN}",
    ),
    e.UpstreamTlsError: Row(
        502,
        _SERVER,
        "upstream_tls",
        "El certificado de SAI no es de confianza. Avisa al administrador del servidor (SAI_CA_FILE).",
        "SAI's certificate cannot be trusted. Tell the server's operator (SAI_CA_FILE).",
        retry=False,
    ),
    e.UpstreamAnswerTooLong: Row(
        502,
        _SERVER,
        "upstream_answer_too_long",
        "La respuesta de SAI supera el máximo de {limit} bytes. Pide una respuesta más corta.",
        "SAI's answer exceeds the maximum of {limit} bytes. Ask for a shorter one.",
        retry=False,
    ),
    e.ToolCallCut: Row(
        400,
        _BAD,
        "tool_call_cut",
        "La respuesta de SAI terminó en mitad de una llamada a una herramienta, que por eso no se ha hecho. Suele "
        "ser el límite de longitud de la plantilla: pide cambios más pequeños, por partes.",
        "SAI's answer ended in the middle of a tool call, which was therefore not made. Mostly this is the template's "
        "limit of length: ask for smaller changes, one part at a time.",
    ),
    e.ToolChoiceDisobeyed: Row(
        502,
        _SERVER,
        "tool_choice_disobeyed",
        "El modelo no llamó a {wanted}{again_es} (tool_choice).",
        "The model did not call {wanted}{again_en} (tool_choice).",
        retry=False,
    ),
    e.OutputMismatch: Row(
        502,
        _SERVER,
        "output_mismatch",
        "El modelo no respondió con el JSON pedido{again_es}: {problem}.",
        "The model did not answer with the JSON that was asked for{again_en}: {problem}.",
        retry=False,
    ),
    e.UpstreamUnavailable: Row(
        503,
        _BUSY,
        "upstream_unavailable",
        f"SAI no está disponible en este momento. {_ASK_AGAIN_ES}",
        f"SAI is not available at the moment. {_ASK_AGAIN_EN}",
    ),
    e.UpstreamUnreachable: Row(
        503,
        _BUSY,
        "upstream_unreachable",
        f"No se pudo conectar con SAI. {_ASK_AGAIN_ES}",
        f"Could not connect to SAI. {_ASK_AGAIN_EN}",
    ),
    e.UpstreamTimeout: Row(
        504,
        _SERVER,
        "upstream_timeout",
        "SAI no respondió a tiempo{within_es}. Repite la petición o reduce su tamaño.",
        "SAI did not answer in time{within_en}. Ask again, or make the request smaller.",
    ),
    e.ServerStopping: Row(
        503,
        _BUSY,
        "server_stopping",
        f"El servidor se está deteniendo y la respuesta quedó incompleta. {_ASK_AGAIN_ES}",
        f"The server is being stopped, and the answer was left incomplete. {_ASK_AGAIN_EN}",
    ),
    e.StoreUnavailable: Row(
        503,
        _BUSY,
        "store_unavailable",
        f"Las respuestas guardadas no están disponibles en este momento. {_ASK_AGAIN_ES}",
        f"The answers that are kept cannot be reached at the moment. {_ASK_AGAIN_EN}",
    ),
    e.ServerBusy: Row(
        503,
        _BUSY,
        "server_busy",
        f"El servidor está atendiendo demasiadas peticiones a la vez. {_ASK_AGAIN_ES}",
        f"The server is handling too many requests at once. {_ASK_AGAIN_EN}",
    ),
    e.InternalError: Row(
        500,
        _SERVER,
        None,
        "Error interno del proxy. Indica el identificador de la petición (x-request-id) a su administrador.",
        "Internal error of the proxy. Give the request's id (x-request-id) to its operator.",
    ),
}


def describe(error: e.ProxyError, language: Language) -> ErrorForm:
    """The form of `error` for a client that reads `language`."""
    row = ERROR_TABLE[type(error)]
    wording = row.es if language == "es" else row.en
    message = wording.format_map(Facts(error.facts, param=error.param or "body"))
    message = message.encode("utf-8", "replace").decode()  # a header's odd bytes are lone surrogates
    headers: dict[str, str] = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
        headers["retry-after-ms"] = str(error.retry_after_s * 1000)  # which the SDKs look at first
    if row.retry is False or error.retried:
        headers["x-should-retry"] = "false"
    if isinstance(error, e.MethodNotAllowed):
        headers["Allow"] = str(error.facts.get("allowed", ""))
    return ErrorForm(row.status, row.type, row.code, error.param, message, headers, row.retry is False)
