"""What a server's key file can be locked with (`core.ports.KeyLock`)."""
