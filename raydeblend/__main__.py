"""``python -m raydeblend``: the command line."""

from raydeblend.cli.main import main

if __name__ == "__main__":
    main()
