"""`raydeblend train rdn` as a script for `ray job submit`; it takes the same options."""

import sys

from raydeblend.cli.main import main

if __name__ == "__main__":
    main(["train", "rdn", *sys.argv[1:]])
