/** What the page tells about itself: shown again, online, another network, or a machine that slept. */

/** Timers run once a minute in a hidden tab; a longer gap is a machine that slept. */
const SLEPT = 90_000;

/** Calls back at each of these until it is ended; `shown`: the person has turned to this page. */
export function watch(wake: (shown: boolean) => void): () => void {
  const ends: (() => void)[] = [];
  const listen = (target: any, event: string, listener: () => void) => {
    if (!target?.addEventListener) return;
    target.addEventListener(event, listener);
    ends.push(() => target.removeEventListener?.(event, listener));
  };
  const changed = () => wake(false);
  const { document, navigator } = globalThis as any;
  for (const event of ["online", "offline", "pageshow"]) listen(globalThis, event, changed);
  listen(document, "resume", changed);
  listen(document, "visibilitychange", () => document.visibilityState === "visible" && wake(true));
  listen(navigator?.connection, "change", changed);
  let before = Date.now();
  const clock = setInterval(() => {
    const now = Date.now();
    const slept = now - before > SLEPT;
    before = now;
    if (slept) wake(false);
  }, 30_000);
  return () => {
    clearInterval(clock);
    for (const end of ends) end();
  };
}

/** The browser's word that there is no network, which is a hint and not a fact. */
export const offline = (): boolean => globalThis.navigator?.onLine === false;
