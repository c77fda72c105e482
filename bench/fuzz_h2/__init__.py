"""The fuzzer of HTTP/2: sequences of frames."""
