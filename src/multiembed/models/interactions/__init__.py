"""One file per architecture; the registry is in the package above."""
