# shellcheck shell=bash
# Defines the functions that the scripts share. Source this file; do not run it.

# Folder for everything that scripts install or build. It is outside the clone and may be deleted at any time.
DOCWEIR_CACHE="${DOCWEIR_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/docweir}"

# Without this option, a failed installation inside `$(…)` would continue and be marked as complete.
shopt -s inherit_errexit

say() { printf '%s\n' "$*" >&2; }

# python_venv REQUIREMENTS: prints the folder of a virtual environment that holds exactly the packages that the file
# pins. The folder's name contains the file's hash. A changed file gets a new folder, and concurrent runs share one.
python_venv() {
    local requirements=$1 name target fresh
    name="$(basename "$(dirname "$requirements")")-$(sha256sum "$requirements" | cut -c1-12)"
    target="$DOCWEIR_CACHE/venv/$name"
    if [[ ! -e "$target/.complete" ]]; then
        mkdir -p "$DOCWEIR_CACHE/venv"
        # Only one process installs; the others wait and then use its result. pip does not inherit the descriptor.
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

# rust_program CRATE VERSION [OPTION…]: prints the folder of a crate's programs, built once with `cargo install
# OPTION…`. The build is not optimised, because an optimised build would take longer than the tests would save.
rust_program() {
    local crate=$1 version=$2 target
    shift 2
    target="$DOCWEIR_CACHE/programs/$crate-$version"
    # The name contains a hash of the options, so changed options get a new folder.
    [[ $# -eq 0 ]] || target+="-$(printf '%s\n' "$@" | sha256sum | cut -c1-12)"
    if [[ ! -e "$target/.complete" ]]; then
        mkdir -p "$DOCWEIR_CACHE/programs"
        # Only one process builds, as above.
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

# debian_packages COMMAND=PACKAGE…: installs each package whose command is missing. If it cannot (another system, or not
# root), it prints the packages to install and fails.
debian_packages() {
    local pair missing=()
    for pair in "$@"; do
        command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [[ ${#missing[@]} -eq 0 ]] && return 0
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        say "missing Debian packages: ${missing[*]}; install them and run this script again"
        return 1
    fi
    say "installing ${missing[*]}"
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}" >/dev/null
}
