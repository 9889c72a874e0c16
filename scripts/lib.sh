# shellcheck shell=bash
# What the scripts share. Sourced, never run.

# Everything that scripts install or build lies here, outside the clone, and may be deleted at any time.
DOCWEIR_CACHE="${DOCWEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/docweir}"

# Without it a failed installation inside of `$(…)` would go on and be marked as complete.
shopt -s inherit_errexit

say() { printf '%s\n' "$*" >&2; }

# python_venv REQUIREMENTS: prints the folder of a virtual environment that holds exactly what the file pins.
# Its name is the hash of the file, so a changed file makes a new one and concurrent runs share what is there.
python_venv() {
    local requirements=$1 name target fresh
    name="$(basename "$(dirname "$requirements")")-$(sha256sum "$requirements" | cut -c1-12)"
    target="$DOCWEIR_CACHE/venv/$name"
    if [[ ! -e "$target/.complete" ]]; then
        mkdir -p "$DOCWEIR_CACHE/venv"
        # One installer at a time; the others wait and find it done. The descriptor is not inherited by pip.
        exec 9>"$target.lock"
        flock 9
        if [[ ! -e "$target/.complete" ]]; then
            say "installing $requirements into $target"
            rm -rf "$target"
            python3 -m venv "$target" 9>&-
            fresh=(install --quiet --disable-pip-version-check --only-binary :all: --requirement "$requirements")
            "$target/bin/pip" "${fresh[@]}" 9>&- >&2
            touch "$target/.complete"
        fi
        exec 9>&-
    fi
    printf '%s\n' "$target"
}

# rust_program CRATE VERSION [OPTION…]: prints the folder of a crate's programs, built once with `cargo install OPTION…`.
# Not optimised: what tests need is built sooner than the time that it would save them.
rust_program() {
    local crate=$1 version=$2 target
    shift 2
    target="$DOCWEIR_CACHE/programs/$crate-$version"
    # Options have a part in the name, so changed ones make a new folder.
    [[ $# -eq 0 ]] || target+="-$(printf '%s\n' "$@" | sha256sum | cut -c1-12)"
    if [[ ! -e "$target/.complete" ]]; then
        mkdir -p "$DOCWEIR_CACHE/programs"
        # One builder at a time, as above.
        exec 9>"$target.lock"
        flock 9
        if [[ ! -e "$target/.complete" ]]; then
            say "building $crate $version into $target"
            CARGO_PROFILE_DEV_DEBUG=false cargo install --quiet --locked --debug --no-track --force \
                --target-dir "$target.build" --root "$target" --version "=$version" "$@" "$crate" 9>&- >&2
            rm -rf "$target.build"
            touch "$target/.complete"
        fi
        exec 9>&-
    fi
    printf '%s\n' "$target/bin"
}

# debian_packages COMMAND=PACKAGE…: installs the packages whose command is missing. Where that is not possible
# (another system, not root), says what to install and fails.
debian_packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        say "missing: ${missing[*]} (names of Debian's packages): install them and run this again"
        return 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
}
