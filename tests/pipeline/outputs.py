"""An output as a run begins it."""

import pyarrow as pa

from raydeblend.fits.manifest import to_manifest
from raydeblend.pipeline.ledger import begin_output, check_output


def open_output(out, run, plan, tiles, resume=False, overwrite=False) -> pa.Table:
    """Make `out` ready for a run of tile headers; return the ledger of what is done."""
    manifest = to_manifest(tiles)
    done = check_output(out, run, plan, manifest, resume, overwrite)
    begin_output(out, run, plan, manifest, overwrite)
    return done
