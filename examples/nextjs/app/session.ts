import { cookies } from "next/headers";

/** Who is logged in: put your own session here. */
export async function signedIn(): Promise<string | undefined> {
  return (await cookies()).get("user")?.value;
}
