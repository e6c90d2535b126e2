"""`python -m heavysync.cli` is `heavy-sync`, for where the scripts of an installation are not on the path."""

from heavysync.cli import sync_main

if __name__ == "__main__":
    sync_main()
