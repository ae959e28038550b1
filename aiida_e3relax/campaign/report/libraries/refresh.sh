#!/usr/bin/env bash
# Fetch the JavaScript libraries that reports carry, at these versions, with their licences. Needs npm.
# plotly.js must have the version that the Python package plotly draws for: plotly.offline.get_plotlyjs_version().
set -euo pipefail
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

take() { # NAME VERSION FILE...
    local name=$1 version=$2
    shift 2
    npm pack --silent --pack-destination "$scratch" "$name@$version" > /dev/null
    tar -xzf "$scratch/$name-$version.tgz" -C "$scratch"
    for file in "$@"; do
        # Without the pointers to source maps, which a report does not carry.
        sed -e 's|//# sourceMappingURL=.*||' -e 's|/\*# sourceMappingURL=.*||' "$scratch/package/$file" > "$(basename "$file")"
    done
    cp "$scratch/package/LICENSE" "$name.LICENSE"
    rm -r "$scratch/package"
}

take plotly.js-cartesian-dist-min 4.1.1 plotly-cartesian.min.js
take 3dmol 2.5.5 build/3Dmol-min.js
take tabulator-tables 6.5.3 dist/js/tabulator.min.js dist/css/tabulator_simple.min.css
