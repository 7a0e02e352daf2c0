/** What the page tells about itself: shown again, online, another network, or a machine that slept. */

/** Calls back at each of these until it is ended; `shown`: the person has turned to this page. */
export function watch(wake: (shown: boolean) => void): () => void {
  /** Timers run once a minute in a hidden tab; a longer gap is a machine that slept. */
  const SLEPT = 90_000;
  const { document, navigator } = globalThis as any;
  const sources: Record<string, any> = {
    online: globalThis,
    offline: globalThis,
    pageshow: globalThis,
    resume: document,
    visibilitychange: document,
    change: navigator?.connection,
  };
  const listener = ({ type }: Event) => {
    const shown = type === "visibilitychange";
    if (!shown || document.visibilityState === "visible") wake(shown);
  };
  const each = (verb: string) => {
    for (const event in sources) sources[event]?.[verb]?.(event, listener);
  };
  each("addEventListener");
  let before = Date.now();
  const clock = setInterval(() => {
    const gap = Date.now() - before;
    before += gap;
    if (gap > SLEPT) wake(false);
  }, 30_000);
  return () => {
    clearInterval(clock);
    each("removeEventListener");
  };
}

/** The browser's word that there is no network, which is a hint and not a fact. */
export const offline = (): boolean => globalThis.navigator?.onLine === false;
