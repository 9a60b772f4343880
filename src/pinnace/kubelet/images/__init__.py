"""Container images: there before a container starts, gone when nobody needs them."""
