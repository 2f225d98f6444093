"""An OpenAI-compatible reverse proxy in front of SAI.

This file imports nothing: it is loaded before every other module of the package, and an import
here would close a circle with the middlewares.
"""

__version__ = "1.0.0"
