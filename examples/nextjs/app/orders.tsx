"use client";

import { useEffect, useState } from "react";
import { type Client, createClient } from "roomcast";
import { useConnectionState, useEvent } from "roomcast/react";
import { resume } from "roomcast/resume";

type Events = { "order:shipped": { orderId: string } };

async function getToken(): Promise<string | null> {
  const answer = await fetch("/api/realtime-token", { method: "POST" });
  return answer.ok ? (await answer.json()).token : null; // null: logged out
}

export function Orders() {
  const [client, setClient] = useState<Client<Events> | null>(null);
  useEffect(() => {
    const made = createClient<Events>({ url: process.env.NEXT_PUBLIC_WEBSOCKET_URL!, getToken, resume });
    setClient(made);
    return () => made.disconnect();
  }, []);

  const [shipped, setShipped] = useState<string[]>([]);
  const state = useConnectionState(client);
  useEvent(client, "order:shipped", ({ orderId }) => setShipped((all) => [...all, orderId]));

  const ship = () => fetch("/api/ship", { method: "POST", body: JSON.stringify({ orderId: "7" }) });
  return (
    <>
      <h1>Orders ({state})</h1>
      <button onClick={ship}>Ship order 7</button>
      {shipped.map((orderId) => (
        <p key={orderId}>{orderId}: shipped</p>
      ))}
    </>
  );
}
