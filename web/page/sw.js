// Keeps every file of the page, so that it works without a network. tools/web/build.py fills in version and files.
"use strict";

const VERSION = "@VERSION@";
/** Path to hash: a file of another version, as during an upload to the host, is refused. */
const FILES = {}; /* @FILES@ */
const PREFIX = "bdd-";
const CACHE = PREFIX + VERSION;

async function store() {
  const cache = await caches.open(CACHE);
  const add = async ([path, integrity]) => {
    const answer = await fetch(new Request(path, { integrity, cache: "no-cache" }));
    if (!answer.ok) throw new Error(`${path}: status ${answer.status}`);
    await cache.put(path, answer);
  };
  const added = await Promise.allSettled(Object.entries(FILES).map(add));
  const failed = added.find((one) => one.status === "rejected");
  if (failed) {
    await caches.delete(CACHE);
    throw failed.reason;
  }
  // A page that runs has loaded all of its files, so the next version need not wait for it.
  await self.skipWaiting();
}

async function forgetOthers() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request) {
  const cache = await caches.open(CACHE);
  const home = request.url.split(/[?#]/)[0] === self.registration.scope;
  const stored = await cache.match(home ? "index.html" : request, { ignoreSearch: true });
  return stored ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(store()));
self.addEventListener("activate", (event) => event.waitUntil(forgetOthers()));
self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === self.location.origin) {
    event.respondWith(answer(request));
  }
});
