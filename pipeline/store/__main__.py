"""``python -m pipeline.store list|prune|…``: shows and trims the store."""

from pipeline.store.command import main

if __name__ == "__main__":
    main()
