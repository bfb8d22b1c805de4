"""The command ``lepton``."""
