/** A clock for tens of thousands of timers: Vitest's own looks through all of them to find the next one. */
import { vi } from "vitest";

export class VirtualClock {
  now = 0;
  private sequence = 0;
  private readonly due = new Map<number, Map<number, () => void>>();
  private readonly times = new Map<number, number>();

  install(): void {
    const nextTask = setImmediate;
    this.settle = () => new Promise((resolve) => nextTask(resolve));
    vi.spyOn(Date, "now").mockImplementation(() => this.now);
    vi.stubGlobal("setTimeout", (task: () => void, delay = 0) => this.at(this.now + delay, task));
    vi.stubGlobal("setInterval", (task: () => void, delay: number) => {
      const id = ++this.sequence;
      const next = () => this.at(this.now + delay, () => (next(), task()), id);
      next();
      return id;
    });
    for (const name of ["clearTimeout", "clearInterval"]) vi.stubGlobal(name, (id: number) => this.clear(id));
  }

  async advance(milliseconds: number): Promise<void> {
    for (const end = this.now + milliseconds; this.now < end;) {
      this.now++;
      for (let tasks = this.due.get(this.now); tasks?.size;) {
        for (const [id, task] of tasks) {
          tasks.delete(id);
          task();
        }
        await this.settle();
      }
      this.due.delete(this.now);
    }
  }

  private settle = async (): Promise<void> => {};

  private at(time: number, task: () => void, id = ++this.sequence): number {
    const key = Math.max(this.now + 1, Math.ceil(time));
    this.times.set(id, key);
    if (!this.due.has(key)) this.due.set(key, new Map());
    this.due.get(key)!.set(id, task);
    return id;
  }

  private clear(id: number): void {
    this.due.get(this.times.get(id)!)?.delete(id);
    this.times.delete(id);
  }
}
