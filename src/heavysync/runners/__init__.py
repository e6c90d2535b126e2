"""Who runs passes over ranges: this process, others that it starts (`crew`), or first the one, then the others (`growth`)."""
