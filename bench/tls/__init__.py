"""TLS: what it costs beside nginx and HAProxy, floods of handshakes, thousands of certificates, and a fuzzer."""
