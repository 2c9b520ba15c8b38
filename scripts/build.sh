#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Configures and builds build/KIND.
#   scripts/build.sh KIND      release: g++ -O2 -g | clang: clang++ | san: g++, ASan and UBSan |
#                              sim: the ns-3 module, against Debian's ns-3
# JOBS=N limits the parallel compilers (default: one per processor).
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: build.sh release|clang|san|sim}
source=.
case $kind in
  release) options=(-DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++) ;;
  clang) options=(-DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++) ;;
  san) options=(-DCMAKE_C_COMPILER=gcc -DCMAKE_CXX_COMPILER=g++ -DVSNOOP_SANITIZE=ON) ;;
  sim) source=sim options=(-DCMAKE_CXX_COMPILER=g++) ;;
  *)
    echo "build.sh: no kind '$kind'; there are: release clang san sim" >&2
    exit 2
    ;;
esac

# CMake writes absolute paths into its cache; its own message about that names four of them.
made_in=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "build/$kind/CMakeCache.txt" 2>/dev/null) || true
if [[ $made_in && ! $made_in -ef $source ]]; then
  echo "build.sh: build/$kind was made when this folder was $made_in: run 'make clean', then build anew" >&2
  exit 1
fi

cmake -S "$source" -B "build/$kind" -G Ninja "${options[@]}" >/dev/null
cmake --build "build/$kind" --parallel "${JOBS:-$(nproc)}"
