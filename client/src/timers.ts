/** Named timers of any length: starting one ends the one of the same name. */
export interface Timers {
  start_(name: string, milliseconds: number, task: () => unknown): void;
  stop_(name?: string): void;
  has_(name: string): boolean;
}

export function createTimers(): Timers {
  /** Above 2 ** 31 - 1 setTimeout overflows, and fires at once. */
  const LONGEST = 2e9;
  const running = new Map<string, ReturnType<typeof setTimeout>>();
  const timers: Timers = {
    start_(name, milliseconds, task) {
      timers.stop_(name);
      const left = milliseconds - LONGEST;
      const fire = () => {
        running.delete(name);
        if (left > 0) timers.start_(name, left, task);
        else task();
      };
      running.set(name, setTimeout(fire, Math.min(milliseconds, LONGEST)));
    },
    stop_(name) {
      if (!name) return running.forEach((_, one) => timers.stop_(one));
      clearTimeout(running.get(name));
      running.delete(name);
    },
    has_: (name) => running.has(name),
  };
  return timers;
}
