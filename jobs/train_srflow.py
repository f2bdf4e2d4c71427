"""`raydeblend train srflow` as a script for `ray job submit`; it takes the same options."""

import sys

from raydeblend.cli.main import main

if __name__ == "__main__":
    main(["train", "srflow", *sys.argv[1:]])
