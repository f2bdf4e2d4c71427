"""`raydeblend train rdn-multiband` as a script for `ray job submit`; with its options."""

import sys

from raydeblend.cli.main import main

if __name__ == "__main__":
    main(["train", "rdn-multiband", *sys.argv[1:]])
