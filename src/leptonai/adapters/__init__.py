"""One third-party library per file; each adapter knows only the core and is found by name."""
