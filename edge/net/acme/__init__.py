"""Certificates from an ACME authority: the protocol client, and the files that the issuer keeps."""
