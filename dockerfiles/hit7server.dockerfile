# hit7 serve: a registry. Its arguments are those of `hit7 serve`.
#
#   docker build . -t hit7server -f dockerfiles/hit7server.dockerfile
#   docker run --rm --name registry --network host -v hit7-data:/hit7-data hit7server 8080
#   docker exec registry hit7 history
#
# It runs as user 7777 and keeps everything in the volume /hit7-data. What can be mounted there:
#   * nothing, or a named volume (-v hit7-data:/hit7-data): works, also with --user; a new volume
#     takes over the owner and the mode that the folder has in the image. That is open, for --user;
#     at its first start user 7777 closes it to others, and says so; another user is warned each time
#   * nothing, with --rm: docker removes the data with the container
#   * a folder of the host (-v "$PWD/hit7-data:/hit7-data"): it keeps its own owner, so run as that:
#     --user "$(id -u):$(id -g)", with the folder made beforehand, or docker makes it root's;
#     or give it away: chown 7777:7777 hit7-data
# A folder that cannot be written is an error at the start, with its name.

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
LABEL org.opencontainers.image.title="hit7server" \
      org.opencontainers.image.description="hit7 serve: introduces peers one minute at a time" \
      org.opencontainers.image.licenses="MIT"
COPY --from=build /image/ /
COPY --from=build --chown=7777:7777 /volume/ /
ENV PATH=/bin HIT7_DATA=/hit7-data
USER 7777:7777
VOLUME /hit7-data
EXPOSE 8080/udp
STOPSIGNAL SIGTERM
ENTRYPOINT ["/bin/hit7", "serve"]
