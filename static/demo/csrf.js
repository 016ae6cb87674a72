// Django's token as the cookie has it now. The one in the page's forms is out of date as soon as someone logs in to the
// admin in another tab, which is what this demo asks for.

export function token() {
  return document.cookie.match(/(?:^|; )csrftoken=([^;]*)/)?.[1] ?? "";
}
