// SDKs insist on signing a JWT. The daemon does not look at the signature, so any key will do.
import { generateKeyPairSync } from "node:crypto";

export const { privateKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
});
