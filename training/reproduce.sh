#!/usr/bin/env bash
# From a folder of photographs to every weight we ship and its table.
# Usage: training/reproduce.sh DATA [RUNS]
#   DATA holds the sub-folders that the recipes name, damage_elements/ and the held-out photographs
#   of training/validation.txt. RUNS (default runs/) takes caches and checkpoints; a run that was
#   interrupted continues from its last checkpoint.
set -euo pipefail
data=${1:?usage: training/reproduce.sh DATA [RUNS]}
runs=${2:-runs}
recipes=training/recipes
elements=$data/damage_elements

[ -f "$runs/cache/pixels.bin" ] ||
  python -m training.data "$data" --recipe "$recipes/inpaint.toml" --out "$runs/cache"
python -m training.loop "$recipes/inpaint.toml" --cache "$runs/cache" --run "$runs/inpaint" \
  --elements "$elements"
python -m training.loop "$recipes/inpaint-continue.toml" --cache "$runs/cache" \
  --run "$runs/inpaint-continue" --start "$runs/inpaint/checkpoint/ema.safetensors" \
  --elements "$elements"
python -m training.export "$runs/inpaint-continue/checkpoint" --out "$runs/inpaint.safetensors"
python -m training.evaluate "$data" --weights "$runs/inpaint.safetensors" --photos 256 \
  --elements "$elements" --sheet "$runs/inpaint.png"
