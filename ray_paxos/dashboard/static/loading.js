// Asking the server. What has not changed since it was asked for last is not sent again.

const TIMEOUT_MS = 25_000;
const KEPT = 8;
const known = new Map();

// Gives { document, isNew, error, isOld }: the last document of that path, whether it is another one
// than before, what is wrong, or null, and with that whether there was a document before.
export async function load(path) {
  const before = known.get(path);
  try {
    const response = await fetch(path, {
      cache: "no-store",
      headers: before ? { "If-None-Match": before.tag } : {},
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (response.status === 304) return { document: before.document, isNew: false, error: null };
    const document = await response.json();
    if (response.status === 401) location.reload();
    if (!response.ok) return { document: null, isNew: false, error: document.error, isOld: Boolean(before) };
    known.delete(path);
    known.set(path, { tag: response.headers.get("ETag"), document });
    if (known.size > KEPT) known.delete(known.keys().next().value);
    return { document, isNew: true, error: null };
  } catch {
    const error = "The server of this page does not answer.";
    return { document: null, isNew: false, error, isOld: Boolean(before) };
  }
}
