"""Where engines run. `inline`: several ranges at once in this process."""
