#!/bin/sh
# package.sh PACKAGE VERSION ARCH deb|rpm FOLDER makes one package of the files that $FILES lists (see the Makefile). The
# version is what "git describe --tags --always --dirty" says; every date in the package is $SOURCE_DATE_EPOCH.
# SPDX-License-Identifier: Apache-2.0
set -eu

package=$1 describe=$2 arch=$3 format=$4 dist=$5
here=${0%/*}
made=bin/nfpm
mkdir -p "$made" "$dist"

# A version in the sense of semver.org, from which nfpm makes one that dpkg and rpm order: 1.2.3~rc1 < 1.2.3 < 1.2.3+4.gabc, and
# before the first tag 0.0.0~git.TIME.gCOMMIT.
dirty=
case "$describe" in *-dirty) dirty=dirty describe=${describe%-dirty} ;; esac
case "$describe" in
v[0-9]*.[0-9]*.[0-9]*-*-g*)
	tag=${describe%-*-g*} behind=${describe#"${describe%-*-g*}"-}
	version=${tag#v}+${behind%-g*}.${behind#*-}${dirty:+.dirty}
	;;
v[0-9]*.[0-9]*.[0-9]*) version=${describe#v}${dirty:++dirty} ;;
*) version=0.0.0-git.$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d%H%M%S).g$describe${dirty:+.dirty} ;;
esac
number=${version%%[-+]*} rest=${version#"${version%%[-+]*}"}
case "$rest" in -*) rest="~${rest#-}" ;; esac

cat >"$made/$package-changelog.yaml" <<END
- semver: "$number$rest-1"
  date: "$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)"
  packager: "leasedog maintainers <leasedog@users.noreply.github.com>"
  deb: {urgency: medium, distributions: [unstable]}
  changes:
    - note: "Built from $2. What changed: the history of its commits."
END
config=$made/$package-$arch-$format.yaml
{
	cat "$here/$package.yaml"
	printf '%s\n' "$FILES" | awk -v package="$package" -v format="$format" -f "$here/contents.awk"
} >"$config"
export VERSION="$version" ARCH="$arch" SOURCE_DATE_EPOCH
"${GO:-go}" tool -modfile=tools.mod nfpm package --config "$config" --packager "$format" --target "$dist/"
