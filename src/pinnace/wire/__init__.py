"""The wire: TLS on the socket, HTTP/1.1, HTTP/2, WebSocket, SPDY/3.1, and the streams of exec, attach and port-forward.

Shared by the API server, the kubelet's node server and the engine's streaming server. Protocol cores are pure (bytes
in, events and bytes out): `http1.py`, `http2.py`, `spdy.py`. Sockets belong to `server.py` (listening), `transport.py`
(accepted) and `proxy.py` (to other servers).
"""
