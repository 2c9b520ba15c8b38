# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=sh disable=SC2034,SC2154
# Two cells, and a guest that stands still: the boot of `make test`.
up
guest g4 1
busy g4
cell "$off_cell" g2 --seed "$off_seed" --connections 10 --warm 200k --sizes 100k --repeat 20
recorded g2 short
offload g2 hold,engage=always
cell "$hold_cell" g2 --seed "$hold_seed" --connections 10 --warm 200k --sizes 100k --repeat 20
stream paused g2
xl pause g2
usleep 700000
xl unpause g2
ended paused
settled g2
offload g2 off
kill $recorder
