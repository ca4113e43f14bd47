// Fetching the page's own files: each is compared with the size and the SHA-256 that the manifest states, and large ones are
// kept on the device, so that a second visit loads nothing.

const KEPT = "rmu-lab-page";

/** What is wrong with the page, in a sentence for its reader. */
export class PageError extends Error {}

/** The manifest of a page. */
export async function readManifest() {
  const answer = await get("manifest.json");
  let manifest;
  try {
    manifest = await answer.json();
  } catch {
    manifest = null;
  }
  if (manifest?.format !== 1 || !manifest.files || !manifest.topics?.length) {
    throw new PageError("manifest.json is not the list of files that this page needs; write the page anew with rmu-lab page.");
  }
  return manifest;
}

async function get(path) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-cache", referrerPolicy: "no-referrer" });
  } catch {
    throw new PageError(`${path} could not be loaded: the connection failed. Check it, and load the page again.`);
  }
  if (!answer.ok) {
    throw new PageError(
      `${path} could not be loaded: the server says ${answer.status}. It belongs to this page; put the whole folder on the server.`,
    );
  }
  return answer;
}

/**
 * Load files and check them.
 * @param {object} manifest of the page
 * @param {string[]} paths of the files
 * @param {(share: number) => void} onProgress called with the share of all bytes that is there
 * @returns {Promise<Map<string, Blob>>} path to content
 */
export async function loadFiles(manifest, paths, onProgress) {
  const total = paths.reduce((sum, path) => sum + stated(manifest, path).bytes, 0);
  let there = 0;
  const count = (bytes) => onProgress((there += bytes) / total);
  const store = await openStore(manifest);
  const files = new Map();
  for (const path of paths) {
    files.set(path, await loadFile(stated(manifest, path), path, store, count));
  }
  return files;
}

/** Whether all of some files were kept on an earlier visit. */
export async function allKept(manifest, paths) {
  const store = await openStore(manifest);
  if (!store) return false;
  const found = await Promise.all(paths.map((path) => store.match(keyOf(stated(manifest, path), path))));
  return found.every(Boolean);
}

function stated(manifest, path) {
  const file = manifest.files[path];
  if (!file) throw new PageError(`manifest.json does not name ${path}; write the page anew with rmu-lab page.`);
  return file;
}

const keyOf = (file, path) => new URL(`${path}?sha256=${file.sha256}`, document.baseURI).href;

async function loadFile(file, path, store, count) {
  const kept = await store?.match(keyOf(file, path));
  if (kept) {
    const blob = await kept.blob();
    if (await isRight(blob, file)) {
      count(blob.size);
      return typed(blob, path);
    }
    await store.delete(keyOf(file, path));
  }
  const blob = await download(path, file, count);
  if (blob.size !== file.bytes) {
    throw new PageError(
      `${path} has ${blob.size} bytes and not ${file.bytes}: it was cut off or replaced, and is not used. Load the page again.`,
    );
  }
  if (!(await isRight(blob, file))) {
    throw new PageError(
      `${path} has another checksum than this page states: it was damaged or replaced, and is not used. Load the page again.`,
    );
  }
  try {
    await store?.put(keyOf(file, path), new Response(blob));
  } catch {
    // The device has no room to keep it: the next visit loads it again.
  }
  return typed(blob, path);
}

async function download(path, file, count) {
  const answer = await get(path);
  const parts = [];
  let size = 0;
  try {
    const reader = answer.body.getReader();
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      size += step.value.byteLength;
      if (size > file.bytes) await reader.cancel(); // it is another file, however long
      parts.push(step.value);
      count(step.value.byteLength);
    }
  } catch {
    throw new PageError(`${path} could not be loaded to its end: the connection failed. Check it, and load the page again.`);
  }
  return new Blob(parts);
}

async function isRight(blob, file) {
  if (blob.size !== file.bytes) return false;
  if (!globalThis.crypto?.subtle) return true; // on plain http, from another machine, browsers offer no checksums
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") === file.sha256;
}

const typed = (blob, path) => (path.endsWith(".wasm") ? new Blob([blob], { type: "application/wasm" }) : blob);

/** Where files are kept; null where the browser keeps nothing. What an earlier version of the page left is removed. */
async function openStore(manifest) {
  try {
    const store = await caches.open(KEPT);
    const ours = new Set(Object.entries(manifest.files).map(([path, file]) => keyOf(file, path)));
    const base = new URL(".", document.baseURI).href;
    for (const request of await store.keys()) {
      if (request.url.startsWith(base) && !ours.has(request.url)) await store.delete(request);
    }
    return store;
  } catch {
    return null;
  }
}
