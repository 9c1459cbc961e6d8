# hit7 join: a peer. Its arguments are those of `hit7 join`.
#
#   docker build . -t hit7cliente -f dockerfiles/hit7cliente.dockerfile
#   docker run --rm --network host hit7cliente localhost 8080 --name ana
#
# Peers greet each other directly: with --network host at the host's own address, without it behind
# docker's NAT, like any client at home.

# The build stage is the same text in both files: the second image is made from the first one's
# layers.
FROM rust:1.95-slim-bookworm AS build
# A static program, for an image with nothing else in it: glibc's resolver is built in. A target that
# is named keeps the flags from the procedural macros, which cannot be static.
ENV CARGO_BUILD_TARGET=host-tuple RUSTFLAGS="-C target-feature=+crt-static"
WORKDIR /hit7
# First the dependencies, around an empty crate: until Cargo.lock changes they stay as they are.
COPY Cargo.toml Cargo.lock ./
COPY tests/support/Cargo.toml tests/support/
RUN mkdir -p src benches tests/support/src \
 && touch benches/path.rs benches/lists.rs benches/replay.rs tests/support/src/lib.rs \
 && echo '//! Empty.' | tee src/lib.rs >src/main.rs && echo 'fn main() {}' >>src/main.rs \
 && cargo build --release --locked
# Then hit7. COPY keeps the files' times, and cargo trusts them: touched, they are newer than the
# empty crate.
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked
RUN mkdir -p /image/bin /image/etc /volume/hit7-data \
 && cp target/*/release/hit7 /image/bin/ \
 && echo 'hosts: files dns' >/image/etc/nsswitch.conf \
 && echo 'hit7:x:7777:7777::/hit7-data:/bin/hit7' >/image/etc/passwd \
 && echo 'hit7:x:7777:' >/image/etc/group \
 && chmod 1777 /volume/hit7-data

FROM scratch
LABEL org.opencontainers.image.title="hit7cliente" \
      org.opencontainers.image.description="hit7 join: meets the other members of the next minute" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /image/ /
ENV PATH=/bin
USER 7777:7777
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/hit7", "join"]
