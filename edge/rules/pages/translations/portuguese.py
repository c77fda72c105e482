"""Portuguese, in words that are usual in Portugal and in Brazil."""

from typing import Final

from edge.rules.pages.translations.translation import Translation

_TITLES: Final = {
    400: "Pedido inválido",
    404: "Não encontrado",
    405: "Método não permitido",
    408: "Tempo do pedido esgotado",
    413: "Conteúdo demasiado grande",
    414: "Endereço demasiado longo",
    417: "Expectativa não cumprida",
    421: "Pedido mal encaminhado",
    429: "Demasiados pedidos",
    431: "Cabeçalhos do pedido demasiado grandes",
    501: "Não suportado",
    502: "Gateway inválido",
    503: "Serviço indisponível",
    504: "Tempo do gateway esgotado",
    505: "Versão de HTTP não suportada",
    508: "Ciclo detetado",
}
_SENTENCES: Final = {
    "bad_request": "O pedido não era HTTP/1.1 válido ou podia ser lido de mais de uma forma.",
    "method_not_allowed": "Este servidor não encaminha pedidos com este método.",
    "loop_detected": "O pedido passou várias vezes por este servidor: a rota do site é circular.",
    "empty_host": "O pedido não indicava nenhum site.",
    "host_not_covered": "O certificado desta ligação não é válido para este site. Por favor, ligue-se novamente.",
    "request_timeout": "O pedido não chegou a tempo.",
    "body_too_large": "O pedido contém mais dados do que este servidor aceita.",
    "uri_too_long": "O endereço é mais longo do que este servidor aceita.",
    "expectation_failed": "O pedido espera algo que este servidor não conhece.",
    "headers_too_large": "Os cabeçalhos do pedido são demasiado grandes. Apagar os cookies pode ajudar.",
    "unknown_host": "Não existe aqui nenhum site com este nome.",
    "unknown_host_limit": "Foram pedidos demasiados sites que não existem. Por favor, aguarde alguns segundos.",
    "no_backends": "De momento não há nenhum servidor disponível para este site.",
    "drained": "Este site está fora de serviço por um momento. Por favor, tente novamente em breve.",
    "lookup_failed": "Não foi possível determinar onde está este site. Por favor, tente novamente em breve.",
    "maintenance": "Este site está em manutenção. Por favor, volte mais tarde.",
    "site_limit": "Este site já atende tantos pedidos quantos pode. Por favor, tente novamente dentro de momentos.",
    "client_limit": "Este site tem muitos visitantes e há muitos pedidos seus em curso. "
    "Por favor, tente novamente dentro de momentos.",
    "all_refused": "Todos os servidores deste site estão ocupados. Por favor, tente novamente dentro de momentos.",
    "edge_overloaded": "Este servidor está sobrecarregado. Por favor, tente novamente dentro de momentos.",
    "edge_stopped": "Este servidor está a ser reiniciado. Por favor, tente novamente dentro de momentos.",
    "connect_failed": "Não foi possível contactar nenhum servidor deste site.",
    "connect_timeout": "Não foi possível contactar a tempo nenhum servidor deste site.",
    "misdirected": "Os servidores deste site mudaram de lugar e o novo endereço ainda não é conhecido.",
    "closed_early": "O servidor do site fechou a ligação antes de responder.",
    "bad_answer": "A resposta do site não era HTTP válido.",
    "response_too_large": "Os cabeçalhos da resposta do site são maiores do que este servidor aceita.",
    "first_byte_timeout": "O site demorou demasiado a responder.",
    "cold_start_timeout": "O servidor do site não arrancou a tempo.",
    "stalled": "O site parou a meio da resposta.",
}
PORTUGUESE: Final = Translation(
    "pt", {"site": "Site", "reason": "Motivo", "request": "Pedido"}, _TITLES, _SENTENCES
)
