"""Where pods come from: the API server, files and a URL; and the mirrors that show the latter two in the API."""
