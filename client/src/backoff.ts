/** How long to wait before the next attempt. Pure: the dice are given. */

/** Milliseconds: the width of a wait that no crowd shares, such as this tab's own wake-up. */
export const QUICK = 1_000;

/**
 * Milliseconds until the next attempt.
 *
 * After a cut, a random moment of `spread`, so that a stage's clients come back evenly. After a failure, at
 * least one whole base, where the base is the spread or, for a small stage, a doubling wait: the clients whose
 * turn is still to come are not joined by those that were refused.
 */
export function backoff(failures: number, spread: number, random: number): number {
  /** The first wait after a failure of a lone client, doubled by each further failure up to the last, which is Socket.IO's. */
  const FIRST = 500;
  const LAST = 5_000;
  /** A streak of refusals may mean that the server counts too few clients: the spread grows, at most to this. */
  const MAX_GROWTH = 2;
  if (!failures) return random * spread;
  const growth = Math.min(MAX_GROWTH, 1.25 ** (failures - 1));
  return Math.max(spread * growth, Math.min(LAST, FIRST * 2 ** (failures - 1))) * (1 + random);
}
