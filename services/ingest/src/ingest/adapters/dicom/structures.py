"""Names of structures that say anatomy and nothing else. Others become a number: a planner may write anything there.

The words are those of AAPM TG-263 and what planning systems add by themselves. A project may allow more.
"""

from __future__ import annotations

import re
from collections.abc import Collection

MAX_NAME = 64

_WORDS = """
a adrenal anal anus aorta arm artery atrium axilla bag bladder body bolus bone boost bowel brachial brachialplexus
brain brainstem breast bronchus canal carina carotid cauda caudaequina cavity cerebellum cervix chest chestwall
chiasm circle clavicle clip cochlea colon combined common cord cornea couch ctv cyst descending duct duodenum ear
edge equina esophagus external eye eyes femoral femur fiducial field gallbladder genitalia gland gtv hd head heart
hippocampus humerus iliac implant inf inferior inner internal iso isocenter isocentre itv jaw joint kidney kidneys l
lacrimal lad larynx left lens limb line lips liver lobe low lung lungs lymph mandible marker mastoid max mediastinum
min motion mucosa musc muscle muscles nerve nipple node nodes nose nrv optic optics oral oralcavity organ ovary
palate pancreas parotid parotids patient pelvic pelvis penile penilebulb penis pharyngeal pharynx pituitary planning
plexus point post prostate prv ptv ptvs pubis pulmonary r rectal rectum ref region retina rib ribs right ring sacrum
salivary scalp scar seed seminal seminalves shoulder sigmoid skin skull small spinal spinalcanal spinalcord spleen
stent sternum stomach structure submandibular sup superior support surface temporal testis thorax thyroid tissue
tongue tooth trachea tumor tumour urethra uterus vagina valve vein ventricle vertebra vertebrae vesicle vessel
volume wall x y z
"""

WORDS = frozenset(_WORDS.split())


def clean_name(name: str, number: str, extra: Collection[str] = ()) -> str:
    """Return a structure's name if each word in it is known, else `ROI-<number>`; `extra` are more words."""
    words = re.findall(r"[^\W\d_]+", name.casefold())
    digits = re.findall(r"\d+", name)
    known = words and all(word in WORDS or word in extra for word in words)
    short = len(name) <= MAX_NAME and name.isascii() and name.isprintable() and all(len(run) <= 4 for run in digits)
    return name if known and short else f"ROI-{number if number.isdecimal() and len(number) < 10 else 'x'}"
