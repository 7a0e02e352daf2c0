/**
 * When to ping. Pure.
 *
 * A ping costs as much as any message, so the default is just below API Gateway's own limit. A network between
 * may forget an idle connection much earlier: each death in idleness shortens the interval, and after a while
 * without another the interval is tried longer again, ever more rarely as deaths repeat.
 */
export interface Keepalive {
  /** Milliseconds without traffic, after which a ping is sent. */
  interval: number;
  /** The longest idle time that a connection has outlived since the last death. */
  survived: number;
  deaths: number;
  /** Pings answered at this interval. */
  answered: number;
}

/** API Gateway closes a connection that has carried nothing for 10 minutes. */
export const LONGEST = 9 * 60_000;
const SHORTEST = 20_000;

export const start: Keepalive = { interval: LONGEST, survived: 0, deaths: 0, answered: 0 };

/** A ping after `idle` milliseconds was answered. */
export function survived(state: Keepalive, idle: number): Keepalive {
  const answered = state.answered + 1;
  const enough = answered >= 3 * 4 ** (state.deaths - 1) && state.interval < LONGEST;
  return {
    ...state,
    survived: Math.max(state.survived, idle),
    interval: enough ? Math.min(LONGEST, state.interval * 1.5) : state.interval,
    answered: enough ? 0 : answered,
  };
}

/** A connection died after `idle` milliseconds; `seen`: at that moment, not some time before. */
export function died(state: Keepalive, idle: number, seen: boolean): Keepalive {
  // So soon it was not idleness; and beyond our own interval it was the machine that slept.
  if (idle < SHORTEST || idle > state.interval * 1.5) return state;
  const guess = seen ? idle * 0.8 : idle / 2;
  const known = state.survived < idle * 0.95 ? state.survived : 0;
  const interval = Math.max(SHORTEST, guess, known);
  return { interval, survived: known, deaths: Math.min(5, state.deaths + 1), answered: 0 };
}
