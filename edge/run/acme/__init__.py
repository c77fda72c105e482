"""The issuer: the process that obtains certificates from an ACME authority."""
