"""Tables -> spectra -> measures -> a verdict."""
