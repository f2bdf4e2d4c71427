"""What the catalog's columns are in the words of the virtual observatory: UCD1+ by name.

Source: IVOA Recommendation "The UCD1+ controlled vocabulary", version 1.5.
"""

from __future__ import annotations

import re

FILTERS = {"u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R", "i": "em.opt.I", "z": "em.opt.I"}
"""The vocabulary's band that holds a survey's; others are optical."""
OPTICAL = "em.opt"

UCDS = (
    (r"source_id", "meta.id;meta.main"),
    (r"tile", "meta.id;obs.field"),
    (r"cell|input_id", "meta.id"),
    (r"parent_id", "meta.id.parent"),
    (
        r"n_(blended|peaks|sources|added|structure|merged|evidence|limited|failed|no_data|other_cell)",
        "meta.number",
    ),
    (r"(ra|dec)", r"pos.eq.{0};meta.main"),
    (r"(ra|dec)_err", r"stat.error;pos.eq.{0}"),
    (r"ra_dec_cov", "stat.covariance;pos.eq"),
    (r"(x|y)[01]?", r"pos.cartesian.{0};instr.det"),
    (r"area", "phys.area;instr.det"),
    (r"n[xy]", "meta.number;instr.pixel"),
    (r"model_(?P<band>.+)", "phot.flux.density;{band};meta.modelled"),
    (r"work", "meta.number"),
    (r"work_factor", "arith.factor"),
    (r"shortfall|is_owner", "meta.code"),
    (r"flux(?:_psf)?_err_(?P<band>.+)", "stat.error;phot.flux.density;{band}"),
    (r"flux_cov_.+", "stat.covariance;phot.flux.density"),
    (r"flux(?:_psf)?_(?P<band>.+)", "phot.flux.density;{band}"),
    (r"bulge_fraction_(?P<band>.+)", "phot.flux;{band};arith.ratio"),
    (r"coverage_(?P<band>.+)", "meta.code.qual;{band}"),
    (r"snr", "stat.snr"),
    (r"(disk_|bulge_)?r50", "phys.angSize"),
    (r"disk_n", "src.morph.param"),
    (r"(disk|bulge)_q", "src.ellipticity"),
    (r"(disk|bulge)_pa", "pos.posAng"),
    (r"T", "phys.angArea"),
    (r"T_err", "stat.error;phys.angArea"),
    (r"g[12]", "src.ellipticity"),
    (r"g[12]_err", "stat.error;src.ellipticity"),
    (r"R(11|22|12)", "arith.factor;src.ellipticity"),
    (r"chi2", "stat.fit.chi2"),
    (r"p_star", "stat.probability;src.class.starGalaxy"),
    (r"p_unrecognized_blend|p_bad", "stat.probability"),
    (r"quality", "meta.code.qual"),
    (r"is_primary|model|photometry|deblender|flags", "meta.code"),
    (r"blendedness|disagreement", "stat.value"),
)
"""Names as regular expressions; the first that matches counts."""


def ucd_of(name: str) -> str:
    """Return the UCD of a column; empty for one that is not in `UCDS`."""
    for pattern, ucd in UCDS:
        found = re.fullmatch(pattern, name)
        if found:
            band = found.groupdict().get("band", "")
            return ucd.format(*found.groups(), band=FILTERS.get(band, OPTICAL))
    return ""
