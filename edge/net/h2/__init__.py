"""HTTP/2 on connections of clients: sessions, connections, streams."""
