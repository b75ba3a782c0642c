"""Every table and figure of Guo et al. (ICML 2024), on any encoded dataset."""
