/** Named timers of any length: starting one ends the one of the same name. */
export interface Timers {
  start(name: string, milliseconds: number, task: () => void): void;
  stop(name?: string): void;
  has(name: string): boolean;
}

/** A longer time overflows setTimeout, which then fires at once. */
const LONGEST = 2 ** 31 - 1;

export function createTimers(): Timers {
  const running = new Map<string, ReturnType<typeof setTimeout>>();
  const timers: Timers = {
    start(name, milliseconds, task) {
      timers.stop(name);
      if (milliseconds === Infinity) return;
      const left = milliseconds - LONGEST;
      const fire = () => {
        running.delete(name);
        if (left > 0) timers.start(name, left, task);
        else task();
      };
      running.set(name, setTimeout(fire, Math.min(milliseconds, LONGEST)));
    },
    stop(name) {
      for (const one of name ? [name] : [...running.keys()]) {
        clearTimeout(running.get(one));
        running.delete(one);
      }
    },
    has: (name) => running.has(name),
  };
  return timers;
}
