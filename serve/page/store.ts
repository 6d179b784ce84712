/**
 * What the browser keeps between visits, in IndexedDB, since documents are longer than localStorage takes.
 *
 * @module
 */
const STORE = "kept";

function done<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

let opened: Promise<IDBDatabase> | undefined;
function open(): Promise<IDBDatabase> {
  return opened ??= (() => {
    const request = indexedDB.open("lakh", 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    return done(request);
  })();
}

/** Undefined where nothing is kept. */
export async function load<T>(key: string): Promise<T | undefined> {
  return await done((await open()).transaction(STORE).objectStore(STORE).get(key));
}

export async function keep(key: string, value: unknown): Promise<void> {
  await done((await open()).transaction(STORE, "readwrite").objectStore(STORE).put(value, key));
}
