/**
 * When to ping. Pure.
 *
 * A ping costs as much as any message, so the default is just below API Gateway's own limit. A network between
 * may forget an idle connection much earlier: each death in idleness shortens the interval, and after a while
 * without another the interval is tried longer again, ever more rarely as deaths repeat.
 */

/** API Gateway closes a connection that has carried nothing for 10 minutes. */
export const LONGEST = 9 * 60_000;
const SHORTEST = 20_000;

export type Keepalive = ReturnType<typeof createKeepalive>;

/** `fixed`: milliseconds that the application has chosen instead. */
export function createKeepalive(fixed: () => number | undefined) {
  let interval = LONGEST;
  /** The longest idle time that a connection has outlived since the last death. */
  let outlived = 0;
  let deaths = 0;
  /** Pings answered at this interval. */
  let answered = 0;
  return {
    /** Milliseconds without traffic, after which a ping is sent. */
    interval_: () => fixed() ?? interval,
    /** A ping after `idle` milliseconds was answered. */
    survived_(idle: number) {
      outlived = Math.max(outlived, idle);
      if (++answered < 3 * 4 ** (deaths - 1)) return;
      interval = Math.min(LONGEST, interval * 1.5);
      answered = 0;
    },
    /** A connection died after `idle` milliseconds; `seen`: at that moment, not some time before. */
    died_(idle: number, seen: boolean) {
      // So soon it was not idleness; and beyond our own interval it was the machine that slept.
      if (idle < SHORTEST || idle > interval * 1.5) return;
      if (outlived >= idle * 0.95) outlived = 0;
      interval = Math.max(SHORTEST, seen ? idle * 0.8 : idle / 2, outlived);
      deaths = Math.min(5, deaths + 1);
      answered = 0;
    },
  };
}
