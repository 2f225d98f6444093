"""What a request may hold of this server, and what HTTP itself needs: admission, bodies, draining, error
responses, pages. Nothing of SAI."""
