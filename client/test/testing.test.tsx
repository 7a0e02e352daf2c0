// @vitest-environment happy-dom
/** roomcast/testing as an application's own tests use it: by the built package. */
import { act } from "react";
import { createRoot } from "react-dom/client";
import { createClient, type RoomcastError } from "roomcast";
import { useEvent, useRoom } from "roomcast/react";
import { envelope, FakeServer, reply } from "roomcast/testing";
import { afterEach, beforeEach, expect, test, vi } from "vitest";

const server = new FakeServer();
const client = createClient<
  { notice: { text: string } },
  { "order:cancel": { data: { orderId: string }; reply: { cancelled: boolean } } }
>({
  url: "wss://fake.test",
  getToken: () => "t",
  WebSocket: server.WebSocket,
});
beforeEach(() => void vi.stubGlobal("IS_REACT_ACT_ENVIRONMENT", true));
afterEach(() => {
  client.disconnect();
  vi.useRealTimers();
});

test("a component hears what the server says, and an action of one's own is answered", async () => {
  server.answer = (action) =>
    action.action === "order:cancel"
      ? envelope("order:cancelled", { cancelled: action.orderId === "7" }, action.id)
      : reply(action);
  let text = "nothing";
  const View = () => {
    const { joined } = useRoom(client, "dashboard");
    useEvent(client, "notice", (notice) => (text = notice.text));
    return joined ? "in" : "out";
  };
  const page = document.createElement("div");
  const root = createRoot(page);
  await act(async () => root.render(<View />));
  await vi.waitFor(() => expect(server.last.actions).toEqual(["dashboard:join"]));
  await act(async () => void (await client.join("dashboard")));
  expect(page.textContent).toBe("in");
  server.say("notice", { text: "hello" });
  expect(text).toBe("hello");
  expect(await client.send("order:cancel", { orderId: "7" })).toEqual({ cancelled: true });
  await act(async () => server.cut());
  expect(page.textContent).toBe("out");
  await act(async () => root.unmount());
});

test("a refused token, as the application sees it, with fake timers", async () => {
  vi.useFakeTimers();
  server.admit = "refuse";
  client.connect();
  const error = client.join("dashboard").catch((error: RoomcastError) => error);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await error).toMatchObject({ code: "auth_failed" });
});
